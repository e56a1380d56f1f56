"""Facts from a picture: the model proposes sentences, and how many of its readings agree; the owner confirms.

Run: python examples/facts_from_picture.py
"""

from shared import arguments, write_sheet

from sync_r1.apps.facts import read_facts
from sync_r1.data import load_image
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)

sheet = []
for photo in session.concept.test_images[:3]:
    proposed = read_facts(session, photo)
    lines = [f"{session.concept.shown(one.sentence)} ({one.agreement:.0%})" for one in proposed]
    print(photo, lines)
    sheet.append(("\n".join(lines) or "nothing is proposed", load_image(photo)))
write_sheet(given.out / "facts_from_picture.png", sheet, width=3.0)
