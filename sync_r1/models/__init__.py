"""Unified models behind one class, `models.base.UnifiedModel`: Show-o, Janus, and what both share."""
