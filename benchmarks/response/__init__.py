"""Response times over distance and queue, beside the model of the field."""
