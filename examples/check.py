"""Check and repair: the model reads its own picture against the prompt, and draws again what it finds wrong.

Run: python examples/check.py --run runs/demo
"""

from shared import arguments, write_sheet

from sync_r1.apps.check import check, repair
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)
prompt = f"a photo of {session.concept.placeholder} wearing a crown holding a kite at the beach"

other = prompt.replace("crown", "cap").replace("kite", "book")  # draws what the prompt does not ask for
picture = session.draw_traced(other, seed=1)[0]
for one in check(session, picture, prompt):
    print("✓" if one.right else "✗", f"{one.word}: asked for {one.asked}, reads {one.read}")

repaired = repair(session, picture, prompt, tries=2, seed=1)
sheet = []
for when, image, checks in (("drawn", picture.image, repaired.before), ("repaired", repaired.image, repaired.after)):
    wrong = [one.word for one in checks if not one.right]
    sheet.append((f"{when}; wrong: {', '.join(wrong) or 'nothing'}", image))
write_sheet(given.out / "check.png", sheet, width=3.2)
