"""Workers that each hold a model: processes of this machine, or actors of Ray. One driver hands out shards and writes files."""
