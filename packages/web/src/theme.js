// Light, dark, or as the system has it. Loaded before the body, so that a page never shows the other theme first.
;(() => {
  const themes = ['system', 'light', 'dark']

  // A browser that keeps nothing for this page throws; the theme is then the system's each time.

  function read() {
    try {
      const kept = localStorage.getItem('theme') ?? 'system'
      return themes.includes(kept) ? kept : 'system'
    } catch {
      return 'system'
    }
  }

  /** @param {string} theme */
  function keep(theme) {
    try {
      localStorage.setItem('theme', theme)
    } catch {
      // It was only for the next visit.
    }
  }

  /** @param {string} theme */
  function apply(theme) {
    document.documentElement.dataset.theme = theme
    for (const button of document.querySelectorAll('[data-theme-switch]')) button.textContent = `Theme: ${theme}`
  }

  apply(read())
  document.addEventListener('DOMContentLoaded', () => apply(read()))
  document.addEventListener('click', ({ target }) => {
    if (!(target instanceof Element) || target.closest('[data-theme-switch]') === null) return
    const theme =
      themes[(themes.indexOf(document.documentElement.dataset.theme ?? 'system') + 1) % themes.length] ?? 'system'
    keep(theme)
    apply(theme)
  })
})()
