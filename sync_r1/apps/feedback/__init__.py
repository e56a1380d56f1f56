"""Feedback by thumbs: they become a belief about what words mean, and the belief a reward to practise under.

Training on the rated texts themselves does not work (docs/applications.md): a few thumbs name a few texts, while a
belief about a word holds in every prompt.
"""

from sync_r1.apps.feedback.beliefs import Belief, belief
from sync_r1.apps.feedback.events import Event, Store
from sync_r1.apps.feedback.practice import learn
from sync_r1.apps.feedback.questions import Question, next_question
from sync_r1.apps.feedback.rating import rate_answer, rate_picture, rate_rewrite
from sync_r1.apps.feedback.rewards import WordReward, reward
from sync_r1.apps.feedback.updates import Snapshot, Update, save_update, undo, undo_saved

__all__ = [
    "Belief",
    "Event",
    "Question",
    "Snapshot",
    "Store",
    "Update",
    "WordReward",
    "belief",
    "learn",
    "next_question",
    "rate_answer",
    "rate_picture",
    "rate_rewrite",
    "reward",
    "save_update",
    "undo",
    "undo_saved",
]
