// Exits 0 when node_modules holds exactly what package-lock.json names for this machine, whoever put it there
// (`npm install` while working, say).
import { readFileSync } from 'node:fs'

const read = path => JSON.parse(readFileSync(path, 'utf8')).packages
const wanted = read('package-lock.json')
const present = read('node_modules/.package-lock.json')

const fits = ({ os, cpu }) =>
  (os ?? [process.platform]).includes(process.platform) && (cpu ?? [process.arch]).includes(process.arch)
const differs = Object.entries(wanted).filter(
  ([path, entry]) => path !== '' && fits(entry) && !entry.link && present[path]?.version !== entry.version,
)
process.exitCode = differs.length === 0 ? 0 : 1
