// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title Questions to a contract that may be hostile.
/// @notice A question is a STATICCALL of at most 100,000 gas of which at most 32 bytes come back, so an answer that burns
/// gas, returns megabytes, reverts with megabytes or is no answer at all costs the asker no more than that.
/// BrokerRequests asks when a request arrives, BrokerLens asks again for the daemon: both through this file, so that they
/// agree.
library NftProbe {
    /// @dev ERC-165 allows 30,000; `owner()` behind a proxy takes under 10,000.
    uint256 internal constant CALL_GAS = 100_000;

    bytes4 private constant ERC721_INTERFACE_ID = 0x80ac58cd;

    /// @notice Whether the contract claims ERC-721 through ERC-165. False where there is no code.
    function isErc721(address nftContract) internal view returns (bool) {
        (uint256 size, uint256 word) =
            _ask(nftContract, abi.encodeWithSignature("supportsInterface(bytes4)", ERC721_INTERFACE_ID));
        return size >= 32 && word == 1;
    }

    /// @notice What `owner()` says; zero unless that is exactly one word that is an address.
    function findOwner(address nftContract) internal view returns (address) {
        (uint256 size, uint256 word) = _ask(nftContract, abi.encodeWithSignature("owner()"));
        return size == 32 && word <= type(uint160).max ? address(uint160(word)) : address(0);
    }

    /// @dev The size of the answer (0 if the call failed) and its first word.
    function _ask(address target, bytes memory question) private view returns (uint256 size, uint256 word) {
        assembly ("memory-safe") {
            // The scratch space at 0 takes the first word; the rest of the answer is never copied.
            mstore(0, 0)
            if staticcall(CALL_GAS, target, add(question, 32), mload(question), 0, 32) {
                size := returndatasize()
            }
            word := mload(0)
        }
    }
}
