"""What is done to rows before they leave a region: chosen, gathered in windows, summed up. Values in, values out."""
