<?php
// For PHP programs that tine starts warm: executed once by php-cli, and copied for each connection.
//
//     require '/usr/share/tine/warm/tine_warm.php';
//     // Classes and whatever else is the same for each connection.
//     Tine\Warm\ready();
//     // From here on, for one connection: $_SERVER, getenv(), STDIN, STDOUT.
//     Tine\Warm\done();
//
// ready() is the point at which the program is copied. After it these are new for each connection:
// the variables of the connection in $_SERVER, getenv() and, if php.ini fills it, $_ENV; and the
// generator of rand(), mt_rand(), shuffle() and the like.
//
// These stay as they were at the point: what was read from a variable before, lcg_value(), which
// cannot be seeded, generators that are objects of their own, $_SERVER['REQUEST_TIME']. A call of
// cli_set_process_title() before the point overwrites the variables: then they are not renewed, and
// `tine warm-check` refuses the program. Make it after the point.
//
// Executed for each connection, without a warm start, the program works as well: the variables are
// the same before and after ready(). The generator is seeded there, too.

namespace Tine\Warm;

/** Says that all that comes before is the same for each connection. */
function ready(): void
{
    // Prepared here, once.
    library();
    $before = variables();
    // Only who can renew the variables may say so.
    \file_exists($before === null ? '/.tine/ready' : '/.tine/ready/variables');
    if ($before !== null) {
        renew($before);
    }
    \mt_srand(\random_int(0, 0x7fffffff));
}

/**
 * Ends the process without the interpreter's tidying-up, which would write to each of its pages.
 *
 * That takes the extension FFI (`ffi.enable`); without it, the process ends by exit(). Output
 * buffers are flushed. Shutdown functions and destructors are called only without FFI.
 */
function done(int $code = 0): void
{
    while (\ob_get_level() > 0 && @\ob_end_flush()) {
    }
    \flush();
    $library = library();
    if ($library !== null) {
        $library->_exit($code);
    }
    exit($code);
}

/** The C library; null if there is no FFI, or if php.ini forbids it. */
function library(): ?object
{
    static $library = false;
    if ($library === false) {
        try {
            $library = \class_exists('FFI') ? \FFI::cdef('void _exit(int);') : null;
        } catch (\Throwable $why) {
            $library = null;
        }
    }
    return $library;
}

/** The environment as the server has written it; null if /proc does not show one of a server. */
function variables(): ?array
{
    // PHP remembers which process /proc/self has led to: a copy would read that of its template.
    \clearstatcache(true);
    $text = @\file_get_contents('/proc/self/environ');
    if ($text === false) {
        return null;
    }
    $found = [];
    foreach (\explode("\0", $text) as $entry) {
        $parts = \explode('=', $entry, 2);
        // The first of a name counts, as for getenv(3).
        if (\count($parts) === 2 && $parts[0] !== '') {
            $found += [$parts[0] => $parts[1]];
        }
    }
    return isset($found['TINE_CONNECTION']) ? $found : null;
}

function renew(array $before): void
{
    $after = variables();
    if ($after === null) {
        throw new \RuntimeException(
            'cannot read /proc/self/environ: the variables would be those of nobody');
    }
    // What the program itself has changed is not touched.
    foreach ($after as $name => $value) {
        if (!isset($before[$name]) || $before[$name] !== $value) {
            \putenv("$name=$value");
            $_SERVER[$name] = $value;
            if ($_ENV) {
                $_ENV[$name] = $value;
            }
        }
    }
    foreach (\array_diff_key($before, $after) as $name => $_) {
        \putenv((string) $name);
        unset($_SERVER[$name], $_ENV[$name]);
    }
}
