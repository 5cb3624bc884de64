"""What is compared: the results of a test's cases, cold and warm, and how its connections were
served."""

PASSED = 'passed'


class Comparison:
    """The tests of a suite, cold and warm."""

    def __init__(self):
        self.cold, self.warm, self.tests, self.copies, self.faults = {}, {}, [], 0, []

    def add(self, name, cold, warm):
        """Adds a test: of each run its cases with their results, and what was served. Returns what
        is wrong."""
        (cold_cases, cold_served), (warm_cases, warm_served) = cold, warm
        self.tests.append(name)
        self.cold |= cold_cases
        self.warm |= warm_cases
        self.copies += warm_served.copies
        faults = differences(cold_cases, warm_cases)
        faults += [
            f'{case}: fails in both runs'
            for case, result in cold_cases.items()
            if result.startswith('failed') and warm_cases.get(case) == result
        ]
        if not faults and PASSED not in cold_cases.values():
            faults.append('no case passes')
        faults += serving(cold_served, warm_served)
        self.faults += faults
        return faults

    def differing(self):
        return differences(self.cold, self.warm)


def differences(cold, warm):
    """The cases with other results, in words. A case that only one of the runs has is one."""
    return [
        f'{case}: cold {cold.get(case, "missing")}, warm {warm.get(case, "missing")}'
        for case in cold | warm
        if cold.get(case) != warm.get(case)
    ]


def serving(cold, warm):
    """What is wrong with how the connections of a test were served."""
    if cold.copies:
        return [f'{cold.copies} copies in the cold run']
    if warm.executions:
        return [f'{warm.executions} executions in the warm run']
    if not cold.executions:
        return ['no connection in the cold run']
    if not warm.copies:
        return ['no copy in the warm run']
    if cold.executions != warm.copies:
        return [f'{cold.executions} connections in the cold run, {warm.copies} in the warm one']
    return []


def row(name, package, found):
    """The line of a suite in the table."""
    passed = [list(cases.values()).count(PASSED) for cases in (found.cold, found.warm)]
    cells = [name, package, len(found.tests), len(found.cold), *passed, len(found.differing()), found.copies]
    return '| ' + ' | '.join(map(str, cells)) + ' |'
