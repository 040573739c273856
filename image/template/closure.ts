import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { createRequire, isBuiltin, registerHooks } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A file or link of a source tree, by its path within the tree. */
export type TreeEntry =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }

/**
 * Returns the part of a workspace that a program of it can reach by import: modules, the package.json of each package, links of
 * workspace packages, and whatever else but tests lies in the program's own folder (pages, schemas). Sorted by path.
 *
 * @param root - The workspace.
 * @param entry - The program, e.g. `services/web3-auth-svc/src/main.ts`, relative to it.
 */
export function sourceClosure(root: string, entry: string): TreeEntry[] {
  const files = new Set<string>()
  const links = new Map<string, string>()
  const queue = [join(root, entry)]
  using resolver = createResolver()
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (files.has(at)) continue
    files.add(at)
    const owner = packageFile(at)
    if (owner !== undefined) files.add(owner)
    for (const path of wasmBeside(at)) files.add(path)
    if (!/\.(ts|js|mjs|cjs)$/.test(at)) continue
    for (const specifier of specifiersOf(readFileSync(at, 'utf8'))) {
      const found = resolver.resolve(specifier, at)
      if (found === undefined) continue
      if (specifier.startsWith('@blockhost/')) addLink(root, specifier, links)
      queue.push(found)
    }
  }
  for (const path of ownFiles(join(root, entry.split('/').slice(0, 2).join('/')))) files.add(path)
  // Pages, styles and schemas of workspace packages are read, not imported.
  for (const target of new Set(links.values()))
    for (const path of ownFiles(join(root, 'node_modules/@blockhost', target)))
      if (!path.endsWith('.ts')) files.add(path)
  const entries: TreeEntry[] = [
    ...[...files].map(path => ({ kind: 'file', path: relative(root, path) }) as const),
    ...[...links].map(([path, target]) => ({ kind: 'link', path, target }) as const),
  ]
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** `import … from 'x'`, `export … from 'x'`, `import('x')`, `require('x')`; type imports vanish before Node sees them. */
function specifiersOf(text: string): string[] {
  const pattern =
    /(?:^|[\s;}])(?:import|export)\s+(?!type\s)(?:[^'"`;()]*?\sfrom\s*)?(['"])([^'"\n]+)\1|\b(?:import|require)\(\s*(['"])([^'"\n]+)\3\s*\)/g
  return [...text.matchAll(pattern)].map(match => match[2] ?? match[4]!)
}

type Resolver = Disposable & { resolve(specifier: string, from: string): string | undefined }

/** Node's own resolution, as if another file asked. */
function createResolver(): Resolver {
  let parentURL: string | undefined
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, parentURL === undefined ? context : { ...context, parentURL }),
  })
  return {
    resolve(specifier, from) {
      if (isBuiltin(specifier)) return undefined
      try {
        parentURL = pathToFileURL(from).href
        return realpathSync(new URL(import.meta.resolve(specifier)))
      } catch {
        return resolveCommonJs(specifier, from)
      } finally {
        parentURL = undefined
      }
    },
    [Symbol.dispose]: () => hooks.deregister(),
  }
}

/** No extension, folders with an index; `undefined` for words in comments that only look like imports. */
function resolveCommonJs(specifier: string, from: string): string | undefined {
  try {
    return realpathSync(createRequire(from).resolve(specifier))
  } catch {
    return undefined
  }
}

function packageFile(path: string): string | undefined {
  for (let folder = dirname(path); folder !== '/'; folder = dirname(folder)) {
    const candidate = join(folder, 'package.json')
    if (existsSync(candidate) && 'name' in (JSON.parse(readFileSync(candidate, 'utf8')) as object)) return candidate
  }
  return undefined
}

/** What JavaScript loads without an import. */
function wasmBeside(path: string): string[] {
  const folder = dirname(path)
  return readdirSync(folder)
    .filter(name => name.endsWith('.wasm'))
    .map(name => join(folder, name))
}

function addLink(root: string, specifier: string, links: Map<string, string>): void {
  const name = specifier.split('/').slice(0, 2).join('/')
  const path = `node_modules/${name}`
  links.set(path, join('../..', relative(root, realpathSync(join(root, path)))))
}

function ownFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => !/\.test\.ts$|(^|\/)(node_modules|test|fuzz|lib|out|cache|coverage)(\/|$)/.test(path))
    .map(path => join(folder, path))
    .filter(path => statSync(path).isFile())
}
