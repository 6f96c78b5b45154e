"""Alerts on their way out: signatures, and who carries a message (core/alerts.py decides)."""
