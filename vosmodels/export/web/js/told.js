/** An error whose message is meant for the person at the page. */
export class Told extends Error {}
