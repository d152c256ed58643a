//! The commit log in Kafka's directory format.
