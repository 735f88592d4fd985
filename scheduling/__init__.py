"""The pure placement core: values in, values out."""
