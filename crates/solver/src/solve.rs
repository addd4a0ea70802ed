//! From a request to a solution: select, mark, check, sweep.

use std::sync::Arc;

use crate::marks::Marks;
use crate::solution::{Chosen, Installed, Reason, Request, Solution, Unsolvable};
use crate::trace::Trace;
use crate::universe::{PkgId, Universe, VerId};

/// Chooses the packages that `request` needs: those that apt-get would choose.
pub fn solve(
    universe: &Universe,
    installed: &Installed,
    request: &Request,
) -> Result<Solution, Unsolvable> {
    let mut marks = Marks::new(universe, installed, request);
    run(&mut marks, request)
}

/// As [`solve`], with what it did and looked at.
#[doc(hidden)]
pub fn solve_traced(
    universe: &Universe,
    installed: &Installed,
    request: &Request,
) -> (Result<Solution, Unsolvable>, Trace) {
    let mut marks = Marks::new(universe, installed, request);
    marks.trace = Some(Vec::new());
    let result = run(&mut marks, request);
    let lines = marks.trace.take().unwrap_or_default();
    (result, Trace::new(&marks, lines))
}

fn run(marks: &mut Marks<'_>, request: &Request) -> Result<Solution, Unsolvable> {
    let roots = select(marks, request)?;
    for &id in &roots {
        marks.mark_install(id, None, true, 0);
    }
    marks.resolve(&roots);
    marks.check()?;
    marks.sweep();
    Ok(solution(marks))
}

/// Marks what the specs name; gives the packages in the order of the specs. As for
/// apt-get, what is to be removed comes first, so that asking for it wins.
fn select(marks: &mut Marks<'_>, request: &Request) -> Result<Vec<PkgId>, Unsolvable> {
    let selected: Result<Vec<_>, _> =
        request.specs.iter().map(|spec| marks.select_spec(spec)).collect();
    let (removed, wanted): (Vec<_>, Vec<_>) = selected?.into_iter().partition(|s| s.remove);
    for (id, _) in removed.into_iter().flat_map(|selected| selected.packages) {
        marks.set_install(id, None);
        marks.state_mut(id).protected = true;
    }
    let mut roots = Vec::new();
    for selected in wanted {
        for (id, version) in selected.packages {
            if let Some(version) = version {
                marks.offer(version);
                if let Some(release) = &selected.release {
                    marks.follow_release(version, release);
                }
            }
            if !marks.select(id, selected.reason.clone()) {
                return Err(marks.no_candidate(id, &selected.reason));
            }
            if !roots.contains(&id) {
                roots.push(id);
            }
        }
    }
    Ok(roots)
}

fn solution(marks: &Marks<'_>) -> Solution {
    let mut solution = Solution::default();
    let changed = |(id, version): &(PkgId, VerId)| marks.state(*id).current != Some(*version);
    for (id, version) in marks.present().into_iter().filter(changed) {
        let entry = marks.universe.version(version);
        let labels =
            entry.sources.iter().map(|s| marks.universe.sources[*s as usize].label.clone());
        solution.install.push(Chosen {
            record: Arc::clone(&entry.record),
            reason: marks.reasons.get(&id).cloned().unwrap_or(Reason::Essential),
            auto: marks.state(id).auto,
            sources: labels.collect(),
        });
    }
    for id in marks.universe.all_packages() {
        let state = marks.state(id);
        if state.current.is_some() && state.install.is_none() {
            let package = marks.universe.package(id);
            solution.remove.push((package.name.clone(), package.arch.clone()));
        }
    }
    let key = |c: &Chosen| (c.record.name.clone(), c.record.architecture.clone());
    solution.install.sort_by_cached_key(key);
    solution.remove.sort();
    solution
}
