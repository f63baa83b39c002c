// Asking the service: what is refused, what is silent, and how long to go on.

export class Refused extends Error {
  constructor(status, told) {
    super(told?.message ?? `The service answered ${status} without saying why.`);
    this.status = status;
    this.wait_s = told?.retry_after_s;
  }
}

class Silent extends Error {}  // nothing answered: a phone was locked, a network changed

const pause = ms => new Promise(done => setTimeout(done, ms));

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Silent("The service does not answer. Is it running, and are you connected to it?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  if (answer.status === 401) document.dispatchEvent(new Event("token-wanted"));
  throw new Refused(answer.status, told?.error);
}

// An attempt is {stopped, tell}: whether somebody stopped it, and who is told how it is.

export async function patiently(path, options, attempt) {
  // A full or stopping service says when to come back: wait, but let people see and stop it.
  for (let left = 20; ; left--) {
    try {
      return await ask(path, options);
    } catch (error) {
      if (!error.wait_s || left === 0 || ![429, 503].includes(error.status)) throw error;
      for (let s = error.wait_s; s > 0 && !attempt.stopped; s--) {
        attempt.tell(`The service is busy; asking again in ${s} s…`);
        await pause(1000);
      }
      if (attempt.stopped) throw error;
    }
  }
}

export async function persistently(path, attempt, read) {
  // A job goes on while nobody is connected, or while the service is started anew: ten minutes of
  // trying, in which a locked phone's sleep does not count.
  for (let left = 300; ; left--) {
    try {
      return await whole(await ask(path), read);
    } catch (error) {
      const later = error instanceof Silent || error.status === 503;
      if (!later || attempt.stopped || left === 0) throw error;
      attempt.tell("The service does not answer; asking again…");
      await pause(2000);
    }
  }
}

async function whole(answer, read) {
  try {
    return await read(answer);
  } catch {
    throw new Silent("The connection broke off in the middle of an answer.");
  }
}

export async function finished(id, attempt, progress) {
  // The job when it is done or has failed, or null once the attempt was stopped.
  for (let wait = 150; ; wait = Math.min(wait * 1.3, 1000)) {
    if (attempt.stopped) return null;
    const job = await persistently(`v1/jobs/${id}`, attempt, answer => answer.json());
    if (job.state === "done" || job.state === "failed") return job;
    progress(job);
    await pause(wait);
  }
}
