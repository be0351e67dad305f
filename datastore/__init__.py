"""What a seat is, and how one node keeps it: vocabulary, engine, ledger, replication, store."""
