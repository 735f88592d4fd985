"""What `replicate` decides: state merged, published, written; very many keys by Spark tasks; its tables' upkeep."""
