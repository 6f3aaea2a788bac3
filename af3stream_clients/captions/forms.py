"""Lay out the pages of the settings window."""

from __future__ import annotations

from PySide6.QtWidgets import QFormLayout, QHBoxLayout, QWidget


def form(*rows: tuple[str, QWidget], page: QWidget | None = None) -> QWidget:
    """Lay out labels and fields in rows, on a new page or on ``page``. Each field has its label as accessible name."""
    page = page or QWidget()
    layout = QFormLayout(page)
    layout.setContentsMargins(4, 14, 4, 8)
    layout.setVerticalSpacing(10)
    layout.setHorizontalSpacing(16)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, field in rows:
        layout.addRow(label, field)
        if label:
            layout.labelForField(field).setMinimumHeight(field.sizeHint().height())
            named = field.focusProxy() or field
            named.setAccessibleName(named.accessibleName() or label.replace("&", ""))
    return page


def beside(main: QWidget, other: QWidget) -> QWidget:
    """Put two widgets into one row; the first takes the space and the focus."""
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(12)
    row.addWidget(main, 1)
    row.addWidget(other)
    both.setFocusProxy(main)
    return both
