"""What is run beside the table: (key, title, [(row, [(attack, rogue, promised)])])."""

import cases
import confirm_rows
import rules

SECTIONS = [("networks", "Other networks (`require`)", cases.NETWORKS),
            ("further", "Further attacks", cases.FURTHER + rules.FURTHER + confirm_rows.FURTHER),
            ("assumptions", "When an assumption does not hold", cases.ASSUMPTIONS + confirm_rows.ASSUMPTIONS)]
