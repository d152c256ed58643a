//! Where devices hang: building, floor, room, device.

/// A site: how many floors a building has and how many rooms a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Buildings, numbered from 1.
    pub buildings: u32,
    /// Floors of each.
    pub floors: u32,
    /// Rooms of each floor.
    pub rooms: u32,
}

/// A room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub building: u32,
    /// From 1.
    pub floor: u32,
    /// From 1.
    pub room: u32,
}

impl Site {
    /// Buildings of 5 floors of 20 rooms, as many as give each room ten devices at most.
    pub fn for_devices(devices: u32) -> Self {
        Self { buildings: devices.div_ceil(1_000).max(1), floors: 5, rooms: 20 }
    }

    /// All its rooms.
    pub fn rooms_total(&self) -> u64 {
        u64::from(self.buildings) * u64::from(self.floors) * u64::from(self.rooms)
    }

    /// The room of device `index` of `devices`. Neighbours by number are neighbours by room, and rooms
    /// differ by one device at most.
    ///
    /// # Panics
    /// If the site has no room, or the device is none of them.
    pub fn place(&self, index: u32, devices: u32) -> Place {
        assert!(index < devices && self.rooms_total() > 0, "device {index} of {devices}");
        let room = (u64::from(index) * self.rooms_total() / u64::from(devices)) as u32;
        let per_building = self.floors * self.rooms;
        Place {
            building: room / per_building + 1,
            floor: room % per_building / self.rooms + 1,
            room: room % self.rooms + 1,
        }
    }
}

impl Place {
    /// The id of device number `index` there: its place, and a number of its own in the fleet.
    pub fn device_id(&self, index: u32) -> String {
        format!("B{:02}-F{:02}-R{:03}-D{:05}", self.building, self.floor, self.room, index + 1)
    }

    /// As JSON.
    pub fn json(&self) -> String {
        format!(
            r#"{{"building":"B{:02}","floor":{},"room":"R{:03}"}}"#,
            self.building, self.floor, self.room
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn rooms_are_filled_evenly_and_ids_are_unique() {
        for devices in [1, 7, 100, 10_000, 100_000] {
            let site = Site::for_devices(devices);
            let mut rooms: BTreeMap<Place, u32> = BTreeMap::new();
            let mut ids = BTreeSet::new();
            for index in 0..devices {
                let place = site.place(index, devices);
                assert!(place.building <= site.buildings && place.floor <= 5 && place.room <= 20);
                *rooms.entry(place).or_default() += 1;
                ids.insert(place.device_id(index));
            }
            assert_eq!(ids.len(), devices as usize);
            let (least, most) = (rooms.values().min().unwrap(), rooms.values().max().unwrap());
            assert!(most - least <= 1 && *most <= 10, "{devices}: {least} to {most}");
        }
    }
}
