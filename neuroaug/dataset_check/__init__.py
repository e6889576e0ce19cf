"""Every unreadable or inconsistent file of a BIDS or CAPS folder, found before hours are spent."""
