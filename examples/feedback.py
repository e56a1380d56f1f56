"""Feedback: one thumb says what a private word means, some seconds of practice teach it, and undo takes it back.

Run: python examples/feedback.py --seconds 10
"""

import tempfile

from shared import arguments, write_sheet

from sync_r1.apps.feedback import Store, belief, learn, rate_rewrite, undo
from sync_r1.session import Session

given = arguments()
run = given.run and given.run / "sft"  # after the look at the photos: the whole training knows the words already
session = Session.open(checkpoint=run, concept=given.concept)
prompt, meant = session.concept.conditions.implicit[0], session.concept.conditions.explicit[0]
print(f"{prompt} means: {meant}")

with tempfile.TemporaryDirectory() as folder:
    store = Store.of(session.concept.name, folder)
    rate_rewrite(session, store, prompt, meant, good=True)
    print("\n".join(belief(store).sentences()))
    before = session.rewrite(prompt)
    update = learn(session, store, given.seconds)
    after = session.rewrite(prompt)

sheet = [(f"before: {before}", session.draw(before, seed=1)[0]), (f"after: {after}", session.draw(after, seed=1)[0])]
undo(session, update)
assert session.rewrite(prompt) == before
write_sheet(given.out / "feedback.png", sheet, width=4.0)
