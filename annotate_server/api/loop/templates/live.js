// The theme that was chosen in the viewer, and parts of a page that are asked for again while they change.
const chosen = localStorage.getItem('annotate.theme');
if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.annotateTheme = chosen;

const EVERY_MS = 3000;

async function refresh(part) {
  if (document.hidden || part.contains(document.activeElement)) return;
  const answer = await fetch(part.dataset.live, { headers: { Accept: 'text/html' } });
  if (!answer.ok || answer.redirected) return;
  const text = await answer.text();
  if (text === part.dataset.seen) return;
  part.dataset.seen = text;
  part.innerHTML = text; // the server's own page, with every text escaped
  const wanted = part.querySelector('[data-reload]');
  if (wanted && part.dataset.was === 'running') location.replace(location.pathname);
  part.dataset.was = wanted ? 'idle' : 'running';
}

addEventListener('DOMContentLoaded', () => {
  for (const part of document.querySelectorAll('[data-live]')) {
    part.dataset.was = part.querySelector('[data-reload]') ? 'idle' : 'running';
    setInterval(() => void refresh(part).catch(() => undefined), EVERY_MS);
  }
});
