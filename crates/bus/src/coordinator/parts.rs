//! Which workers each agent runs.

use tine_load::plan::part::Part;
use tine_load::plan::{Plan, shares};

/// Divides the workers of a plan among agents: as many for each as it has processors, if that is
/// the number of all workers, else the same number for each.
///
/// # Errors
/// There are fewer workers than agents.
pub fn divide(plan: &Plan, processors: &[u32]) -> Result<Vec<Part>, String> {
    let of = Part::whole(plan).of;
    let agents = processors.len();
    if of < agents {
        return Err(format!(
            "{of} processes with {} connections cannot be divided among {agents} agents",
            plan.connections
        ));
    }
    let own = processors.iter().map(|number| *number as usize);
    let numbers: Vec<usize> = match own.clone().sum::<usize>() == of && own.clone().all(|number| number > 0) {
        true => own.collect(),
        false => shares(of, agents).into_iter().map(|share| share.len()).collect(),
    };
    let mut first = 0;
    let parts = numbers.into_iter().map(|workers| {
        let part = Part { first, workers, of };
        first += workers;
        part
    });
    Ok(parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_one_agent() {
        let plan = |processes, connections| Plan { processes, connections, ..crate::samples::plan() };
        for (processes, connections, processors, numbers) in [
            (12, 100, &[8, 4][..], &[8, 4][..]),
            (3, 100, &[8, 4], &[2, 1]),
            (12, 5, &[8, 4], &[3, 2]),
            (4, 100, &[4, 0], &[2, 2]),
            (1, 1, &[1], &[1]),
        ] {
            let plan = plan(processes, connections);
            let parts = divide(&plan, processors).expect("enough workers");
            assert_eq!(parts.iter().map(|part| part.workers).collect::<Vec<_>>(), numbers);
            assert!(parts.iter().all(|part| part.fits(&plan)));
            let mut next = 0;
            for part in parts {
                assert_eq!(part.first, next);
                next += part.workers;
            }
            assert_eq!(next, Part::whole(&plan).of);
        }
        divide(&plan(1, 100), &[1, 1]).expect_err("too few processes");
        divide(&plan(4, 1), &[2, 2]).expect_err("too few connections");
    }
}
