"""What is asked of both brokers. A module for a subject; importing it registers its cases."""
from . import (  # noqa: F401
    admin,
    configs,
    consumer_groups,
    fields,
    frames,
    groups,
    offsets,
    produce_fetch,
    security,
    transactions,
    versions,
)
