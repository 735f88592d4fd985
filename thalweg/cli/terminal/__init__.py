"""What a terminal shows: values, durations, tables and outcomes, as a person reads them."""
