"""Concepts on disk (read, check, write, add) and the exact words of the prompts."""

from sync_r1.data.add import AddedConcept, add_concept_folder
from sync_r1.data.category import Category, category_of
from sync_r1.data.concepts import (
    QA,
    Concept,
    Conditions,
    TestItem,
    list_concepts,
    load_concept,
    random_images,
)
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.pictures import load_image, verify_images
from sync_r1.data.write import write_concept, write_root

__all__ = [
    "QA",
    "AddedConcept",
    "Category",
    "Concept",
    "Conditions",
    "Layout",
    "TestItem",
    "add_concept_folder",
    "category_of",
    "list_concepts",
    "load_concept",
    "load_image",
    "random_images",
    "validate_name",
    "verify_images",
    "write_concept",
    "write_root",
]
