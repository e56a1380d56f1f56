"""Why: which word did what in a picture, cell by cell, and a page that says more.

Run: python examples/why.py --run runs/demo
"""

from shared import arguments, write_sheet

from sync_r1.apps.why_page import explain, overlay, write_why
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)
prompt = f"a photo of {session.concept.placeholder} wearing a crown holding a kite at the beach"

explanation = explain(session, prompt, seed=1)
assert explanation.drawing is not None
image = explanation.drawing.image
most = max(float(one.cells.max()) for one in explanation.words)

sheet = [("drawn", image)]
for one in explanation.words:
    sheet.append((f"{one.words} ({one.total:+.0f} nats)", overlay(image, one.cells, most)))
write_sheet(given.out / "why.png", sheet, width=2.0)
print(f"page  {write_why(explanation, session, given.out / 'why.html')}")
