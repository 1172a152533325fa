"""Every plot and contact sheet, made from arrays."""
