"""From the death of the driver, or of a region, to the next assignment."""
