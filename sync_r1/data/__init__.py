"""Concepts on disk (read, check, write, add) and the exact words of the prompts."""

from sync_r1.data.add import AddedConcept, add_concept_folder
from sync_r1.data.category import Category, category_of
from sync_r1.data.check import ConceptReport, RootReport, check_root
from sync_r1.data.concepts import find_concept, list_concepts, load_concept, random_images
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.pictures import Picture, as_image, load_image, verify_images
from sync_r1.data.types import QA, Concept, Conditions, TestItem
from sync_r1.data.warm_up_items import TrainingItem, cropped_images, load_training_items, negative_images
from sync_r1.data.write import write_concept, write_root

__all__ = [
    "QA",
    "AddedConcept",
    "Category",
    "Concept",
    "ConceptReport",
    "Conditions",
    "Layout",
    "Picture",
    "RootReport",
    "TestItem",
    "TrainingItem",
    "add_concept_folder",
    "as_image",
    "category_of",
    "check_root",
    "cropped_images",
    "find_concept",
    "list_concepts",
    "load_concept",
    "load_image",
    "load_training_items",
    "negative_images",
    "random_images",
    "validate_name",
    "verify_images",
    "write_concept",
    "write_root",
]
