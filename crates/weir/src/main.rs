//! weir: the event backbone for device fleets on Apache Kafka.
fn main() {}
