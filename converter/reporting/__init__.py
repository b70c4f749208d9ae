"""What people read of a conversion: a page, a card, and a bill of materials, all made of two values.

`report.json` holds what was tried and found, the manifest what came of it; nothing here measures.
"""
