/**
 * Sets keys of one section of a TOML file and leaves everything else, comments included, as it is. A commented-out key
 * (`#key = …`) is put into force in its place; a key or section that is not there is added.
 *
 * Knows the shape of this program's configuration only: one `[section]` header a line, one `key = value` a line.
 */
export function setConfigValues(
  text: string,
  section: string,
  values: Readonly<Record<string, string | number | boolean | readonly string[]>>,
): string {
  const lines = text.split('\n')
  let start = lines.findIndex(line => line.trim() === `[${section}]`)
  if (start === -1) {
    while (lines.at(-1) === '') lines.pop()
    lines.push('', `[${section}]`, '')
    start = lines.length - 2
  }
  for (const [key, value] of Object.entries(values)) {
    const end = endOfSection(lines, start)
    const own = lines.slice(start + 1, end)
    const live = own.findIndex(line => new RegExp(`^\\s*${key}\\s*=`).test(line))
    const place = live === -1 ? own.findIndex(line => new RegExp(`^\\s*#\\s*${key}\\s*=`).test(line)) : live
    const line = `${key} = ${JSON.stringify(value)}`
    if (place === -1) lines.splice(lastLine(lines, start, end) + 1, 0, line)
    else lines[start + 1 + place] = line
  }
  return lines.join('\n')
}

function endOfSection(lines: readonly string[], start: number): number {
  const next = lines.findIndex((line, index) => index > start && /^\s*\[/.test(line))
  return next === -1 ? lines.length : next
}

function lastLine(lines: readonly string[], start: number, end: number): number {
  let at = end - 1
  while (at > start && lines[at]!.trim() === '') at--
  return at
}
