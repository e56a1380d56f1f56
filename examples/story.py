"""Story: one line becomes a picture book, planned by rules, drawn and checked by the model.

Run: python examples/story.py --run runs/demo
"""

from shared import arguments

from sync_r1.apps.story import draw, plan
from sync_r1.apps.story_book import export
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)

book = plan(session.concept, f"{session.concept.called} finds a kite at the beach and takes it home", pages=3, seed=1)
folder = given.out / "story"
draw(session, book, folder)
for page in book.pages:
    print(page.text, page.mistakes)
for name in ("story.png", "story.html"):
    print(f"written  {export(book, session.concept, folder, given.out / name)}")
