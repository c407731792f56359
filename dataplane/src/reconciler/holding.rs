//! Holding: what the loop does with the table as long as nothing is wanted.
//!
//! What was in force when it began stays so. Once others change it, the last ruleset on disk takes its place; what the
//! store says may be older than both. The first look also finds what others did before this began: whatever differs from
//! the disk, where that is known to be of what we left, and a table that was emptied in any case. Nothing else is put
//! back then: a kernel that is ahead of the disk is ahead by our own doing.

use tokio::time::Instant;
use tracing::warn;

use super::{Loop, RETRY_FIRST, RETRY_MAX, now};
use crate::nft::outline::Outline;
use crate::nft::{Nft, NftError};
use crate::saved::Generation;

/// Loads in a row that others undo before the table is listed; then they are left alone for a while.
const LOADS_MAX: usize = 3;

impl<N: Nft> Loop<N> {
    /// Puts the last ruleset on disk in the place of what others made of it.
    pub(super) async fn hold(&mut self) {
        let Some(saved) = &self.saved else { return };
        let drift = match self.enforcer.audit().await {
            Ok(drift) => drift,
            Err(error) => {
                warn!("our table can not be listed, next try in {RETRY_MAX:?}: {error}");
                self.look_at = Some(Instant::now() + RETRY_MAX);
                return;
            }
        };
        let changed = self.intrusion.found(drift) || self.enforcer.found_nothing();
        if !changed && self.looked {
            return;
        }
        let outcome = match saved.generations().await {
            Ok(generations) => {
                self.looked = true;
                match generations.first() {
                    // Nothing was ever enforced here, so nothing is missing.
                    None => return drop(self.intrusion.repaired()),
                    Some(best) if !changed && !self.was_changed(best) => return,
                    Some(_) => self.reload(generations).await,
                }
            }
            Err(error) => Err(NftError::Unavailable(error.to_string())),
        };
        match outcome {
            Ok(()) => {
                let change = self.intrusion.repaired().unwrap_or_else(|| "our table was missing".to_owned());
                warn!("put back what was enforced last, from disk: {change}");
                self.reporter.repaired(now(), &change);
            }
            Err(error) => {
                warn!("what was enforced last can not be put back, next try in {RETRY_MAX:?}: {error}");
                self.look_at = Some(Instant::now() + RETRY_MAX);
            }
        }
    }

    /// Whether others changed the table before this began, as far as that can be told.
    fn was_changed(&mut self, best: &Generation) -> bool {
        let (Some(saved), Some(standing)) = (&self.saved, self.enforcer.outline()) else { return false };
        let left = Outline::of_script(&best.script);
        let certain = saved.must_stand(best) || left.emptied(&standing);
        certain && self.intrusion.found(left.drift(&standing))
    }

    /// Loads the first script that nft takes. One that it refuses is damaged; for any other failure an older one would not
    /// be the answer.
    async fn reload(&mut self, generations: Vec<Generation>) -> Result<(), NftError> {
        let mut outcome = Ok(());
        for generation in generations {
            generation.tell();
            outcome = self.load(&generation.script).await;
            if !matches!(outcome, Err(NftError::Refused(_) | NftError::Stale(_))) {
                break;
            }
        }
        outcome
    }

    /// Loads a script until the table is listed as the script says. What others did between the two must not be adopted.
    async fn load(&mut self, script: &str) -> Result<(), NftError> {
        let loaded = Outline::of_script(script);
        for _ in 0..LOADS_MAX {
            self.enforcer.reload(script.to_owned()).await?;
            let drift = self.enforcer.outline().map(|standing| loaded.drift(&standing)).unwrap_or_default();
            let announced = self.enforcer.drain();
            let Some(intruder) = self.enforcer.intruder(&announced) else {
                // Nobody was at it: where it differs, it only reads otherwise than it was written.
                return Ok(());
            };
            if drift.is_empty() {
                // They came before the load, or after the listing.
                self.look_at = Some(Instant::now() + RETRY_FIRST);
                return Ok(());
            }
            self.intrusion.suspect(intruder);
            self.intrusion.found(drift);
        }
        Err(NftError::Unavailable("others keep changing the table".to_owned()))
    }
}
