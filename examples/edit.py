"""Edit and vary: another hat, and a random part drawn again; every other pixel stays.

Run: python examples/edit.py --run runs/demo
"""

from shared import arguments, write_sheet

from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)
name = session.concept.placeholder

drawing = session.draw_traced(f"a photo of {name} wearing a cap holding a kite at the beach", seed=1)[0]
edited = session.edit(drawing, "hat", f"a photo of {name} wearing a crown holding a kite at the beach", seed=1)[0]
varied = session.vary(drawing, share=0.4, n=1, temperature=2.0, seed=2)[0]

sheet = [("drawn with a cap", drawing.image), ("edited: a crown", edited.image), ("varied", varied.image)]
write_sheet(given.out / "edit.png", sheet)
