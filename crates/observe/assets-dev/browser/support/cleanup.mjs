// What is to be done after a test, whether it passes or not.

const stacks = new WeakMap();

/** Runs `task` after the test, the last one first: a page is closed before its server stops. */
export function defer(t, task) {
  if (!stacks.has(t)) {
    stacks.set(t, []);
    t.after(() => runAll(stacks.get(t)));
  }
  stacks.get(t).push(task);
}

async function runAll(tasks) {
  const problems = [];
  while (tasks.length > 0) {
    try {
      await tasks.pop()();
    } catch (problem) {
      problems.push(problem);
    }
  }
  if (problems.length > 0) {
    throw problems[0];
  }
}
