//! Does a member keep its promises when its process, its disk or its host does not?
//!
//! Real store, real log, real files. A writer process (this same binary, started again) commands a member and notes
//! every answer it gets in a file elsewhere; it is killed, frozen or starved of disk at random moments; then the member
//! is opened and asked for everything it ever acknowledged. Seeds are printed; `SEED=n` plays one again.
//!
//! Power cuts and full disks need root and loop devices. Without them those tests are skipped with a message, or fail
//! where `CI=true`.

mod acks;
mod damaged_state;
mod dice;
mod disk;
mod folder;
mod kill;
mod loop_device;
mod power_cut;
mod verify;
mod writer;
