"""What every job shares: its flow, its start and end, work beside the stream, garbage between batches."""
