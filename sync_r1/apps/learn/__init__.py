"""Lessons about a person's own things, which adapt to what the learner knows."""

from sync_r1.apps.learn.facts import Fact, facts_of
from sync_r1.apps.learn.items import Item
from sync_r1.apps.learn.lesson import Feedback, Lesson
from sync_r1.apps.learn.store import Answer, Learner, report

__all__ = ["Answer", "Fact", "Feedback", "Item", "Learner", "Lesson", "facts_of", "report"]
