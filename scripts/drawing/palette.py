"""Colours of the drawings, for light and dark pages, and the style sheet that has them."""

PAGES = {'light': '#ffffff', 'dark': '#0d1117'}

# Of text and of lines: on a light page, on a dark one.
INK = {
    'text': ('#16202a', '#e8edf1'),
    'muted': ('#50606d', '#a5b4c0'),
    'server': ('#0b6f6a', '#6fd3c8'),
    'child': ('#8c5119', '#e5b07a'),
    'client': ('#2a5db4', '#8cb4f5'),
    'kernel': ('#7440ac', '#c9a5f2'),
    'alert': ('#b41f32', '#ff8f97'),
}

# Of areas. `paper` is for what is inside another area, `gone` for what is no more.
FILL = {
    'server': ('#e2f2f0', '#10302f'),
    'child': ('#fbeee0', '#36281a'),
    'client': ('#e6eefb', '#18294a'),
    'kernel': ('#f1eafa', '#2c2140'),
    'gone': ('#f2f4f5', '#1a2128'),
    'paper': ('#ffffff', '#0d1117'),
}

GRID = ('#c3ced5', '#33414d')

FONT = 'system-ui, "Noto Sans CJK SC", sans-serif'

# Kinds of text: size in pixels, weight.
TEXT = {'title': (15, 600), 'body': (14, 400), 'small': (13, 400)}


def linear(part):
    """A part of an sRGB colour, from 0 to 1, as an amount of light."""
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def luminance(colour):
    """The relative luminance of `#rrggbb`, as WCAG 2 defines it."""
    red, green, blue = (linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """The contrast ratio of two colours, as WCAG 2 defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def colours(theme):
    """The rules that have colours. They name them directly: some programs that show SVG know no
    variables."""
    at = list(PAGES).index(theme)
    rules = [f'.grid,.panel{{stroke:{GRID[at]}}}']
    for name, ink in INK.items():
        rules.append(f'text.{name}{{fill:{ink[at]}}}')
        rules.append(f'.line.{name}{{stroke:{ink[at]}}}')
        rules.append(f'.head.{name}{{fill:{ink[at]}}}')
    for name, fill in FILL.items():
        stroke = INK.get(name, INK['muted'])[at]
        rules.append(f'.box.{name}{{fill:{fill[at]};stroke:{stroke}}}')
    return rules


def style(dark_only=False):
    """The style sheet. With `dark_only`, dark whatever the page is: to look at it where there is no
    theme."""
    rules = [f'text{{font-family:{FONT}}}', '.m{font-family:monospace}']
    for kind, (size, weight) in TEXT.items():
        rules.append(f'.{kind}{{font-size:{size}px;font-weight:{weight}}}')
    rules += [
        '.line,.grid{fill:none;stroke-width:1.75}',
        '.grid{stroke-width:1}',
        '.life{stroke-width:4}',
        '.dashed{stroke-dasharray:6 4}',
        '.box{stroke-width:1.5}',
        '.box.panel{fill:none}',
    ]
    if dark_only:
        return '\n'.join(rules + colours('dark'))
    dark = '\n'.join('  ' + rule for rule in colours('dark'))
    media = f'@media (prefers-color-scheme: dark) {{\n{dark}\n}}'
    return '\n'.join([*rules, *colours('light'), media])
