/** What pages have in common, as files for a server to hand out. */

/** One file: its media type, and where it lies. */
export type Asset = { readonly type: string; readonly file: URL }

/**
 * Files that every page loads, by the path they are served at.
 *
 * Whatever serves them imports this module, so a copy of the service that is made by following imports has them too.
 */
export const assets: Readonly<Record<string, Asset>> = {
  '/theme.css': { type: 'text/css; charset=utf-8', file: new URL('theme.css', import.meta.url) },
  '/theme.js': { type: 'text/javascript; charset=utf-8', file: new URL('theme.js', import.meta.url) },
}
