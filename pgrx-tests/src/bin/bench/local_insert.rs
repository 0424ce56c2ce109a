//! A local `INSERT … SELECT`.

use std::time::Instant;

use crate::cpu::{self, Cost};
use crate::stand::{SOURCE, Stand, reason};
use crate::variant::Variant;

/// Inserts the rows of the source into a variant's empty table.
pub(crate) fn measure(stand: &Stand, variant: Variant) -> Result<Cost, String> {
    let pair = stand.pair();
    let mut session = pair.subscriber().connect(pair.database());
    let backend: i32 = session
        .query_one("select pg_backend_pid()", &[])
        .map_err(reason)?
        .get(0);
    let backend = backend.unsigned_abs();
    // Brings the source into the server's memory.
    session
        .batch_execute(&format!("select sum(amount) from {SOURCE}"))
        .map_err(reason)?;

    let before = cpu::of_process(backend)?;
    let started = Instant::now();
    session
        .batch_execute(&format!(
            "insert into {} (id, userid, amount) select id, userid, amount from {SOURCE}",
            variant.table()
        ))
        .map_err(reason)?;
    Ok(Cost {
        wall: started.elapsed().as_secs_f64(),
        cpu: cpu::of_process(backend)? - before,
    })
}
