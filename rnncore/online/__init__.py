"""Learning on streams: real-time recurrent learning and the extended Kalman filter."""
