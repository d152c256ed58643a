//! Devices, geofences, trajectories, alerts.
