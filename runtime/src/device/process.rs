//! What the process has beside its sessions: counted once, however many models it runs.

use super::{BudgetError, Device, Reservation};
use std::sync::{Mutex, PoisonError};

/// The process's own place in the account.
pub(super) type Held = Mutex<Option<Reservation>>;

impl Device {
    /// Takes `bytes` out of the account for what the process has beside its sessions (code, stacks, heap), for as long as
    /// the device lives, and gives what is held. Only the first call takes: what it counted is part of the process
    /// ever after, and what came later is on some session's account.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn hold_process(&self, bytes: u64) -> Result<u64, BudgetError> {
        let mut held = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref() {
            return Ok(held.bytes());
        }
        *held = Some(self.ledger.reserve("the process itself", bytes)?);
        Ok(bytes)
    }

    /// What [`Device::hold_process`] holds.
    pub fn process_held(&self) -> Option<u64> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Reservation::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn the_process_is_counted_once() {
        let device = Device::builder().threads(Some(1)).budget(Some(100)).build().unwrap();
        assert_eq!(device.process_held(), None);
        assert!(device.hold_process(101).is_err());
        assert_eq!((device.process_held(), device.ledger().used()), (None, 0));
        assert_eq!(device.hold_process(60).unwrap(), 60);
        assert_eq!(device.hold_process(90).unwrap(), 60);
        assert_eq!((device.process_held(), device.ledger().free()), (Some(60), 40));
    }
}
