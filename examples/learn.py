"""Learn: a lesson about one's own things, which adapts to the answers.

Run: python examples/learn.py --run runs/demo
"""

import tempfile

from shared import arguments, write_sheet

from sync_r1.apps.learn import Learner, Lesson
from sync_r1.session import Session

given = arguments()
session = Session.open(checkpoint=given.run, concept=given.concept)

sheet = []
with tempfile.TemporaryDirectory() as folder:
    lesson = Lesson({session.concept.name: session}, Learner("mia", folder))
    for right in (True, False, True):
        item = lesson.next_item()
        answer = item.fact.answer if right else ""  # an empty answer stands for "I do not know"
        if right and item.right is not None:
            answer = "abcd"[item.right]
        feedback = lesson.answer(item, answer)
        print(f"{item.question} {answer!r} → {feedback.sentence} (known: {feedback.known:.2f})")
        verdict = feedback.sentence.partition(":")[0]
        sheet.append((f"{item.question}\n{answer or 'no answer'}: {verdict}", feedback.picture))
write_sheet(given.out / "learn.png", sheet, width=3.4)
