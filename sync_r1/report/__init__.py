"""What a run shows: a page, a picture, curves. Reads the files of a run directory only."""

from sync_r1.report.before_after import write_sheet
from sync_r1.report.run_files import Run, read_run, save_concept_card
from sync_r1.report.run_page import render_report, write_report

__all__ = ["Run", "read_run", "render_report", "save_concept_card", "write_report", "write_sheet"]
