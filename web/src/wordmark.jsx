// The product's name, as shown on the page.

export function Wordmark() {
  return (
    <span className="wordmark">
      <svg viewBox="0 0 32 32" aria-hidden="true">
        <path d="M25 10.5A11 11 0 1 0 27 17" />
        <path d="M26 3.5V11h-7.5" />
        <circle cx="16" cy="16.5" r="2" />
      </svg>
      Ringback
    </span>
  );
}
