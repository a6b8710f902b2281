// What the page asks the HTTP API. A token, where one is needed, lives as long as the tab.

const PREFIX = "api/v2/learning";
const KEPT = "feedback-token";
const MOST_PARTS = 50;

/** An error of the API (RFC 9457). */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? "the service does not answer");
    this.status = status;
    this.title = document.title ?? "No answer";
  }
}

/** Whether a token is needed and none is known. */
export async function needsToken() {
  const { tokens } = await answerOf(await fetched("health", {}));
  return tokens && !sessionStorage.getItem(KEPT);
}

export function hasToken() {
  return sessionStorage.getItem(KEPT) !== null;
}

/** Keep a token, or none; false where it cannot be sent, since a header is ASCII. */
export function keepToken(token) {
  if (token === null) sessionStorage.removeItem(KEPT);
  else if (/^[\x20-\x7e]+$/.test(token.trim())) sessionStorage.setItem(KEPT, token.trim());
  else return false;
  return true;
}

/** A document; parameters that are null are left out. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
  return answerOf(await fetched(`${PREFIX}/${path}${query.size ? `?${query}` : ""}`, { headers: authorization() }));
}

export async function post(path) {
  return answerOf(await fetched(`${PREFIX}/${path}`, { method: "POST", headers: authorization() }));
}

/** The first document of a list with the items of all its parts; `part` says how many there are at most. */
export async function whole(path, name, parameters = {}) {
  const first = await get(path, { limit: 1000, ...parameters });
  for (let document = first, parts = 1; document.next && parts < MOST_PARTS; parts += 1) {
    document = await get(path, { limit: 1000, ...parameters, cursor: document.next });
    first[name].push(...document[name]);
  }
  return first;
}

function authorization() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function fetched(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Problem(0, { detail: "The service does not answer. Is `feedback-pipeline up` still running?" });
  }
}

async function answerOf(response) {
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, document);
  return document;
}
