//! Who holds how much of the memory budget.

use crate::sort;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::size::ByteSize;

/// The memory account of a process: one budget that every model, session and cache draws on.
///
/// A reservation is made before the memory is taken and given back when it is dropped. The ledger counts what is
/// reserved, not what is resident; it allocates nothing for its holders.
#[derive(Debug)]
pub struct Ledger {
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    budget: u64,
    used: u64,
    peak: u64,
    next_id: u64,
    open: Vec<(u64, Holding)>,
}

/// One open reservation, as [`Ledger::holdings`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What the memory is for.
    pub what: Cow<'static, str>,
    /// Bytes reserved.
    pub bytes: u64,
}

/// A part of the budget; dropping it gives the bytes back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its bytes back"]
pub struct Reservation {
    ledger: Arc<Ledger>,
    id: u64,
    bytes: u64,
}

/// A reservation that does not fit the budget: who asked for how much, and who holds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetError {
    /// What the memory was for.
    pub what: String,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes held by others at that moment.
    pub used: u64,
    /// The whole budget in bytes.
    pub budget: u64,
    /// Who holds `used`, largest first.
    pub holders: Vec<Holding>,
}

/// Holders that an error message names; the rest are summed up.
const NAMED_HOLDERS: usize = 3;

impl Ledger {
    /// An account with `budget` bytes, nothing of it used. A budget of 0 refuses every reservation but those of
    /// 0 bytes.
    pub fn new(budget: u64) -> Arc<Ledger> {
        Arc::new(Ledger { account: Mutex::new(Account { budget, ..Account::default() }) })
    }

    /// Takes `bytes` out of the budget for `what`.
    ///
    /// # Errors
    /// When fewer than `bytes` are left; nothing is taken then.
    pub fn reserve(
        self: &Arc<Self>,
        what: impl Into<Cow<'static, str>>,
        bytes: u64,
    ) -> Result<Reservation, BudgetError> {
        let what = what.into();
        let mut account = self.account();
        self.take(&mut account, &what, 0, bytes)?;
        let id = account.next_id;
        account.next_id += 1;
        account.open.push((id, Holding { what, bytes }));
        Ok(Reservation { ledger: Arc::clone(self), id, bytes })
    }

    /// The whole budget in bytes.
    pub fn budget(&self) -> u64 {
        self.account().budget
    }

    /// Another budget from now on.
    ///
    /// # Errors
    /// When more than that is reserved; the budget is unchanged then.
    pub fn set_budget(&self, bytes: u64) -> Result<(), BudgetError> {
        let mut account = self.account();
        if bytes < account.used {
            let what = "a smaller budget".to_string();
            let mut holders: Vec<Holding> = account.open.iter().map(|(_, h)| h.clone()).collect();
            sort::by_key(&mut holders, |h| std::cmp::Reverse(h.bytes));
            return Err(BudgetError { what, asked: 0, used: account.used, budget: bytes, holders });
        }
        account.budget = bytes;
        Ok(())
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.account().used
    }

    /// Bytes not reserved now. Another thread may take them before the caller does.
    pub fn free(&self) -> u64 {
        let account = self.account();
        account.budget - account.used
    }

    /// The most bytes that were ever reserved at once.
    pub fn peak(&self) -> u64 {
        self.account().peak
    }

    /// Every open reservation in the order in which they were made.
    pub fn holdings(&self) -> Vec<Holding> {
        self.account().open.iter().map(|(_, holding)| holding.clone()).collect()
    }

    /// Replaces `held` bytes of the account by `bytes`.
    fn take(&self, account: &mut Account, what: &str, held: u64, bytes: u64) -> Result<(), BudgetError> {
        let others = account.used - held;
        // others <= budget always, so the subtraction cannot wrap, and the sum below cannot overflow.
        let budget = account.budget;
        if bytes > budget - others {
            let mut holders: Vec<Holding> = account.open.iter().map(|(_, h)| h.clone()).collect();
            sort::by_key(&mut holders, |h| std::cmp::Reverse(h.bytes));
            let what = what.to_string();
            return Err(BudgetError { what, asked: bytes, used: others, budget, holders });
        }
        account.used = others + bytes;
        account.peak = account.peak.max(account.used);
        Ok(())
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Every update is complete before anything can panic, so a poisoned account is still right.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows or shrinks the reservation to `bytes` in one step, so that no other thread can take what it gives up
    /// in order to ask for more.
    ///
    /// # Errors
    /// When the budget has no room; the reservation is unchanged then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), BudgetError> {
        let mut account = self.ledger.account();
        let Some(at) = account.open.iter().position(|(id, _)| *id == self.id) else {
            unreachable!("reservation {} is open until it is dropped", self.id);
        };
        let what = account.open[at].1.what.clone();
        if let Err(mut error) = self.ledger.take(&mut account, &what, self.bytes, bytes) {
            error.holders =
                account.open.iter().filter(|(id, _)| *id != self.id).map(|(_, h)| h.clone()).collect();
            sort::by_key(&mut error.holders, |h| std::cmp::Reverse(h.bytes));
            return Err(error);
        }
        account.open[at].1.bytes = bytes;
        drop(account);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut account = self.ledger.account();
        account.open.retain(|(id, _)| *id != self.id);
        account.used -= self.bytes;
    }
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BudgetError { what, asked, used, budget, holders } = self;
        write!(f, "{what} asks for {}, but ", ByteSize(*asked))?;
        write!(f, "{} of the memory budget of {} are used", ByteSize(*used), ByteSize(*budget))?;
        for (i, holder) in holders.iter().take(NAMED_HOLDERS).enumerate() {
            write!(f, "{}{} {}", if i == 0 { " (" } else { ", " }, holder.what, ByteSize(holder.bytes))?;
        }
        let more = holders.len().saturating_sub(NAMED_HOLDERS);
        if more > 0 {
            write!(f, ", and {more} more")?;
        }
        f.write_str(if holders.is_empty() { "" } else { ")" })?;
        match used.checked_add(*asked) {
            Some(need) => write!(f, "; give a budget of at least {need} bytes, or release some of it first"),
            None => f.write_str("; no budget is that large"),
        }
    }
}

impl std::error::Error for BudgetError {}

#[cfg(test)]
mod tests {
    use super::{Holding, Ledger};
    use std::sync::Arc;

    #[test]
    fn bytes_come_back_on_drop_and_the_peak_stays() {
        let ledger = Ledger::new(100);
        let weights = ledger.reserve("weights", 60).unwrap();
        let arena = ledger.reserve(format!("arena of session {}", 1), 40).unwrap();
        assert_eq!((ledger.used(), ledger.free(), ledger.peak()), (100, 0, 100));
        assert_eq!(
            ledger.holdings(),
            [
                Holding { what: "weights".into(), bytes: 60 },
                Holding { what: "arena of session 1".into(), bytes: 40 }
            ]
        );
        drop(weights);
        assert_eq!((ledger.used(), ledger.peak()), (40, 100));
        drop(arena);
        assert_eq!((ledger.used(), ledger.holdings().len()), (0, 0));
    }

    #[test]
    fn a_refusal_names_asked_used_budget_and_holders() {
        let ledger = Ledger::new(512_000_000);
        let _small = ledger.reserve("kv cache", 12_000_000).unwrap();
        let _large = ledger.reserve("weights", 400_000_000).unwrap();
        let error = ledger.reserve("arena", 200_000_000).unwrap_err();
        assert_eq!((error.asked, error.used, error.budget), (200_000_000, 412_000_000, 512_000_000));
        assert_eq!(
            error.to_string(),
            "arena asks for 200 MB (200,000,000 bytes), but 412 MB (412,000,000 bytes) of the memory budget of \
             512 MB (512,000,000 bytes) are used (weights 400 MB (400,000,000 bytes), kv cache 12 MB (12,000,000 \
             bytes)); give a budget of at least 612000000 bytes, or release some of it first"
        );
        assert_eq!(ledger.used(), 412_000_000);
        let error = ledger.reserve("everything", u64::MAX).unwrap_err();
        assert!(error.to_string().ends_with("no budget is that large"), "{error}");
    }

    #[test]
    fn resize_keeps_the_old_size_when_there_is_no_room() {
        let ledger = Ledger::new(100);
        let _other = ledger.reserve("other", 30).unwrap();
        let mut cache = ledger.reserve("cache", 50).unwrap();
        cache.resize(70).unwrap();
        let error = cache.resize(71).unwrap_err();
        assert_eq!((error.asked, error.used, error.holders.len()), (71, 30, 1));
        assert_eq!((cache.bytes(), ledger.used()), (70, 100));
        cache.resize(10).unwrap();
        assert_eq!((ledger.used(), ledger.peak()), (40, 100));
        drop(cache);
        assert_eq!(ledger.used(), 30);
    }

    #[test]
    fn an_empty_budget_refuses_all_but_nothing() {
        let ledger = Ledger::new(0);
        assert!(ledger.reserve("nothing", 0).is_ok());
        assert!(ledger.reserve("a byte", 1).is_err());
    }

    #[test]
    fn threads_never_overdraw() {
        let ledger = Ledger::new(1_000);
        std::thread::scope(|scope| {
            for t in 0..4u64 {
                let ledger = Arc::clone(&ledger);
                scope.spawn(move || {
                    for i in 0..2_000 {
                        if let Ok(held) = ledger.reserve("part", (i * 7 + t * 131) % 600) {
                            assert!(ledger.used() <= 1_000);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert_eq!(ledger.used(), 0);
        assert!(ledger.peak() <= 1_000);
    }
}
